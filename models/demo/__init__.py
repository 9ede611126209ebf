"""What `make demo` runs on."""
