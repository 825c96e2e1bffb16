"""What PyTorch has in torch.utils."""
