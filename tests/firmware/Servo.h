// All of it is in arduino_host.h.
