"""The pyfuse3 side: translate calls, errors and attributes; keep the kernel's caches honest."""
