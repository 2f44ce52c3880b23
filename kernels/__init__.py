"""Triton kernels of rollmath. They import torch, triton and each other, nothing else."""
