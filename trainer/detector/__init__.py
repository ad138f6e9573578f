"""Builds the detector: fits, exports, quantizes and calibrates its network.

prepared parts ─fit─> network ─export─> .tflite ─quantize, parity─> candidate ─calibrate─> tail
"""
