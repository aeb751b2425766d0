"""Data planes: what rewrites packets, and the law it follows."""
