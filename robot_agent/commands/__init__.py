"""What ``robot-agent`` can be told to do: one file per command."""
