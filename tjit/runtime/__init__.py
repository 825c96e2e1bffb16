"""Machine code in memory: images, threads, buffers, the disk cache."""
