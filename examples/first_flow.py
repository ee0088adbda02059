"""A flow in ten lines: it streams, and leaving the loop stops the model.

python examples/first_flow.py "What is a Session?"
"""

import sys

from millrace import LocalModel, Pipeline

flow = Pipeline(str.strip, LocalModel.demo())

for piece in flow.stream(sys.argv[1] if len(sys.argv) > 1 else "What is a Warp?").text():
    print(piece, end="", flush=True)
print()
