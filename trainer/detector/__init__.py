"""The detector: its network fitted, exported, quantized and calibrated.

prepared parts ─fit─> network ─export─> .tflite ─quantize, parity─> candidate ─calibrate─> tail
"""
