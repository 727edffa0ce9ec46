"""What the service costs, measured on this machine: ratios side by side in one run."""
