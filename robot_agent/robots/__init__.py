"""Robot drivers: one file (or folder) each, all behind the Robot protocol in base."""
