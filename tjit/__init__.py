"""tjit: a tensor library with a compiler in it."""
