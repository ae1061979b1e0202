"""Bytes on a serial wire: the port and the protocols of motors; knows no robot."""
