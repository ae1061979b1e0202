"""The operator's commands, one file per thing they deal with."""
