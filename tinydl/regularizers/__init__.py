"""Regularizers: gradient penalties, and the objective that adds them to a loss."""

from .gradients import DataGrad, Objective, Pass, Penalty, SpectReg, Terms, data_grad, spect_reg
