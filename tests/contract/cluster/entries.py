"""Entries of steps; each takes the decoded payload."""

import os
import signal
import sys
import time


def say(payload):
    print("out", payload["text"])
    print("err", payload["text"], file=sys.stderr)


def count(payload):
    with open(payload["file"], "a") as file:
        file.write(payload.get("line", "x") + "\n")


def tokens(payload):
    """Names of tokens in the environment."""
    print(sorted(name for name in os.environ if "TOKEN" in name and not name.startswith("PYTEST")))


def leave(payload):
    sys.exit(payload["code"])


def fail(payload):
    raise ValueError("no good")


def refuse(payload):
    from rdv.errors import Refused

    raise Refused("the model is constant", "look at its data")


def die(payload):
    os.kill(os.getpid(), signal.SIGKILL)


def allocate(payload):
    blocks = []
    while True:
        blocks.append(b"x" * 4_000_000)


def allocate_in_children(payload):
    """Four children that stay below the limit alone, and pass it together."""
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            held = b"x" * (payload["mb"] << 20)
            time.sleep(600)
            print(len(held))
        children.append(child)
    time.sleep(600)


def refused_memory(payload):
    raise MemoryError("cannot have 7 TB")


def gate(payload):
    """Tell that it runs, then wait for a file."""
    with open(payload["started"], "a") as file:
        file.write(str(os.getpid()) + "\n")
    print("waiting", flush=True)
    while not os.path.exists(payload["gate"]):
        time.sleep(0.005)
    print("done")


def parent_of(payload):
    """Start a process in the background, tell its id and end or stay."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(child, flush=True)
    if payload["stay"]:
        time.sleep(600)


def talk(payload):
    """A line for each file that appears: 0, 1, ..."""
    for at in range(payload["lines"]):
        while not os.path.exists(os.path.join(payload["folder"], str(at))):
            time.sleep(0.005)
        print("line", at)


def environment(payload):
    print(os.getcwd(), os.environ["OMP_NUM_THREADS"], os.getpgrp() == os.getpid(), os.path.basename(__file__))
