"""How fast this machine is: bench, roofline, and the tuner that writes a device profile."""
