"""One order, carried out: which arms, on which engine, judged and recorded.

- `runner`: runs the arms of a scenario outside the engine, writes the result.
- `agent`: receives the request inside the engine, and sends events back.
- `arm`: one arm, inside the engine.
- `repeat`: the same order with other seeds.
- `provenance`: versions, kernel and network that a result records.
"""

from twlab.callable_package import make_callable

make_callable(__name__)  # twlab.run(...), see `twlab.notebook.functions`
