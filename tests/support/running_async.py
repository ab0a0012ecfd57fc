"""Runs a coroutine from a test."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from asgiref.sync import sync_to_async
from django.db import connections


def run(coroutine):
    """Runs the coroutine in a thread of its own: after a browser test Playwright's loop
    holds this one.
    """

    async def main():
        try:
            return await coroutine
        finally:
            await sync_to_async(connections.close_all)()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, main()).result()
