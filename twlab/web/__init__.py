"""The lab in a browser: pages, a queue of runs, warm guests, a class.

The server is one process with one event loop (asyncio). It never runs a lab itself: worker
processes do (`twlab.web.driver`), each with a confined guest that is warm before it is needed.
"""
