"""The gateways that are compared, a module each."""
