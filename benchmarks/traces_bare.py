"""The floor that `benchmarks.traces` compares with: aiohttp in a plain loop, each answer a line of a file, unsynced.

    python -m benchmarks.traces_bare BASE_URL PROMPTS.jsonl OUT.jsonl CONCURRENCY

It keeps no ledger, checks nothing and tries nothing twice.
"""

import asyncio
import json
import sys

import aiohttp


async def ask_all(base_url: str, prompts: str, out: str, concurrency: int) -> None:
    """Ask every prompt, and write the answers as they come."""
    slots = asyncio.Semaphore(concurrency)
    connector = aiohttp.TCPConnector(limit=concurrency)
    with open(prompts) as rows, open(out, "w") as answers:
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask(row: dict[str, str]) -> None:
                message = {"role": "user", "content": row["prompt"]}
                async with slots:
                    body = {"model": "mock", "messages": [message], "max_tokens": 64}
                    async with session.post(f"{base_url}/chat/completions", json=body) as response:
                        reply = await response.json()
                text = reply["choices"][0]["message"]["content"]
                answers.write(json.dumps({"id": row["id"], "completion": text}) + "\n")

            await asyncio.gather(*(ask(json.loads(row)) for row in rows))


if __name__ == "__main__":
    _, base_url, prompts, out, concurrency = sys.argv
    asyncio.run(ask_all(base_url, prompts, out, int(concurrency)))
