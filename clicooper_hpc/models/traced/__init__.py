"""Any ``nn.Module`` that ``torch.fx`` can trace, as layers between which it can be cut."""
