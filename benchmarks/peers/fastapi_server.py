"""The peer: one LightGBM model behind FastAPI, pydantic and uvicorn, one process, as one would write it by hand.

It validates the same JSON Schema (as a pydantic model made from it) and calls `Booster.predict` on one row a request.
`python fastapi_server.py schema.json model.txt` prints `port N` when it accepts connections. It insists on uvicorn's
fast parts (uvloop, httptools): a slower peer would flatter us.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import lightgbm
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, create_model


def request_model(schema: dict[str, Any]) -> type[BaseModel]:
    """The pydantic model of a flat schema of bounded, required numbers that allows no other field."""
    fields: dict[str, Any] = {
        name: (float, Field(ge=told["minimum"], le=told["maximum"], strict=True, allow_inf_nan=False))
        for name, told in schema["properties"].items()
    }
    return create_model("Row", __config__=ConfigDict(extra="forbid"), **fields)


class Answer(BaseModel):
    """What the service answers."""

    answer: float
    model: str


def application(schema: dict[str, Any], model: Path) -> FastAPI:
    """The service."""
    booster = lightgbm.Booster(model_file=str(model))
    names = tuple(schema["properties"])
    app = FastAPI()

    async def score(row: Any) -> Answer:
        matrix = np.array([[getattr(row, name) for name in names]])
        return Answer(answer=float(booster.predict(matrix, num_threads=1)[0]), model=model.stem)

    score.__annotations__ = {"row": request_model(schema), "return": Answer}
    app.post("/score")(score)
    return app


def main() -> None:
    """Serve until told to stop."""
    schema, model = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        application(schema, model), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
    print(f"port {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
