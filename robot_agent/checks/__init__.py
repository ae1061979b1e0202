"""What ``robot-agent check`` looks at, one file per subject."""
