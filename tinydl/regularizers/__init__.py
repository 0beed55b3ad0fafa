"""Regularizers: gradient penalties, and the objective that adds them to a loss."""

from .gradient import DataGrad, Objective, Pass, Penalty, SpectReg, Terms, data_grad, spect_reg
