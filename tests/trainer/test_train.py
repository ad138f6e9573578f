from __future__ import annotations

import base64
import json
import re
from xml.etree import ElementTree

import numpy as np

from models import known_answers
from models.pipeline import Pipeline
from tests.trainer.conftest import Trained
