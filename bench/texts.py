"""What is refined in the benchmark: prompts of 1, 10 and 100 KB, and what the model makes of them."""

from __future__ import annotations

import json

SIZES = {"1k": 1_000, "10k": 10_000, "100k": 100_000}
PLACEHOLDERS = tuple(f"{{{{field_{number}}}}}" for number in range(10))
_SENTENCES = (
    "Write to the customer whose order is late and say when it will arrive.",
    "Mention what was ordered, on which day, and who will bring it.",
    "Apologise once, in plain words, and offer the customer a choice of two dates.",
    "Do not promise anything that the warehouse has not confirmed in writing.",
    "If the customer has asked before, refer to the earlier letter and keep its tone.",
)
CHANGES = (
    {"reason": "Says who reads it.", "before": "the customer", "after": "a customer who has waited for two weeks"},
    {"reason": "Sets a limit.", "before": "", "after": "Keep it under 120 words."},
)


def draft(size: str) -> str:
    """Prose of that many characters with each of the ten placeholders once, spread over it."""
    length = SIZES[size]
    text, number = "", 0
    while len(text) < length:
        if len(text) * len(PLACEHOLDERS) >= number * length and number < len(PLACEHOLDERS):
            text += f"Use {PLACEHOLDERS[number]} here. "
            number += 1
        text += f"{_SENTENCES[len(text) % len(_SENTENCES)]} "
    return text[:length].strip()


def refined(size: str) -> str:
    """The draft, better: as long, with the same placeholders."""
    return draft(size).replace("the customer", "a customer")


def completion(size: str) -> bytes:
    """The whole HTTP response of the model's server."""
    answer = {"refined_prompt": refined(size), "changes": CHANGES, "assumptions": ["The order is late, not lost."]}
    message = {"role": "assistant", "content": json.dumps(answer), "refusal": None}
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_795_521_600,
            "model": "gpt-4.1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 200, "total_tokens": 500},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
