"""Graph to kernels, kernels to machine code. Import as `tjit.codegen`."""

if __name__ != "tjit.codegen":
    raise ImportError("import tjit.codegen, not codegen: the folder is a part of tjit")
