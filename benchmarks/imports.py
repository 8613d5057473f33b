"""How long ``import pi_ai`` takes in a fresh interpreter, and how many modules it loads."""

import json
import sys
import time

before = len(sys.modules)
began = time.perf_counter()
import pi_ai  # noqa: E402, F401

print(json.dumps({"ms": (time.perf_counter() - began) * 1000, "modules": len(sys.modules) - before}))
