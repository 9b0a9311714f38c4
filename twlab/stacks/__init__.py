"""TCP stacks that are not the kernel's, run as programs on nodes that have none."""
