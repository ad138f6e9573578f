"""The forecaster's training: windows, network, fit, form, intervals and evaluation."""
