"""Graph to graph. Import as `tjit.passes`."""

if __name__ != "tjit.passes":
    raise ImportError("import tjit.passes, not passes: the folder is a part of tjit")
