"""The process behind a local model: a llama.cpp server. ``local.py`` runs this file as a script; nothing imports it.

One line of JSON comes in on stdin: ``sys_path`` (where to import from), ``path`` (the GGUF file), ``alias``,
``api_key``, ``threads``, and ``parameters``, further fields of ``xllamacpp.CommonParams``. One line of JSON goes out on
stdout: ``{"url": …}`` or ``{"error": …}``. The process lives until its stdin ends, so it never outlives its parent,
however that one dies.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which may well go on
    answer = os.dup(1)
    os.dup2(2, 1)  # nothing that the C++ code prints may get between the lines
    order = json.loads(sys.stdin.buffer.readline())
    reply: dict[str, str]
    server: Any = None
    try:
        server = _server(order)
        reply = {"url": server.listening_address}
    except RuntimeError:  # its text says nothing
        reply = {"error": "it is no complete GGUF file, memory does not suffice, or a parameter is wrong"}
    except Exception as error:  # noqa: BLE001 - the parent tells it
        reply = {"error": f"{type(error).__name__}: {error}"}
    os.write(answer, json.dumps(reply).encode() + b"\n")
    sys.stdin.buffer.read()
    os._exit(0)  # the server's destructor would wait for unfinished answers


def _server(order: dict[str, Any]) -> Any:
    sys.path[:] = order["sys_path"]
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = order["path"]
    params.model_alias = {order["alias"]}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [order["api_key"]]
    params.ui, params.verbosity = False, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    for name, value in order["parameters"].items():
        setattr(params, name, value)
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
