"""The GPU: launches, how a product is cut into tiles, what all .cu files share."""
