"""The far side of the benchmark: a webhook receiver that remembers what it got, when, and how often."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter

import orjson
from aiohttp import web

seen: Counter[str] = Counter()
first: dict[str, float] = {}


async def receive(request: web.Request) -> web.Response:
    """Count the order; its id is the same for every repeat of its notification."""
    body = orjson.loads(await request.read())
    data = body["data"]
    order = data.get("order_id") or data["data"]["order_id"]
    seen[order] += 1
    first.setdefault(order, time.time())
    return web.Response(text="ok")


async def hang(request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response(text="late")


async def report(request: web.Request) -> web.Response:
    """`{"distinct", "total"}` of orders, with `?times=1` also when each first came."""
    told: dict[str, object] = {"distinct": len(seen), "total": seen.total()}
    if "times" in request.query:
        told["first"] = first
    return web.json_response(told)


async def forget(request: web.Request) -> web.Response:
    seen.clear()
    first.clear()
    return web.Response(text="ok")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    app = web.Application()
    app.add_routes(
        [web.post("/", receive), web.post("/hang", hang), web.get("/report", report), web.delete("/report", forget)]
    )
    web.run_app(app, host="127.0.0.1", port=parser.parse_args().port, print=None, access_log=None)


if __name__ == "__main__":
    main()
