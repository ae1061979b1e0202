"""Camera drivers: one file each, all behind the Camera protocol in base."""
