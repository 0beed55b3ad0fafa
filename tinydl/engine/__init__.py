"""The engine: tensors, primitives, gradients of every order."""
