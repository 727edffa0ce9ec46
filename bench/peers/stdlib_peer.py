"""The floor: the standard library alone, with a token and one call of the model, and no database."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import time
from urllib.parse import urlsplit

SECRET = os.environ["JWT_SECRET"].encode()
MODEL = urlsplit(os.environ["OPENAI_BASE_URL"])
KEY = os.environ["OPENAI_API_KEY"]
model = http.client.HTTPConnection(MODEL.netloc)


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encoded(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signature(signed):
    return hmac.digest(SECRET, signed.encode(), hashlib.sha256)


def caller(event):
    token = event["headers"]["authorization"].removeprefix("Bearer ")
    signed, _, signed_with = token.rpartition(".")
    claims = json.loads(decoded(signed.partition(".")[2]))
    good = hmac.compare_digest(signature(signed), decoded(signed_with)) and claims["exp"] > time.time()
    return claims["sub"] if good else None


def refine(event):
    messages = [{"role": "user", "content": json.loads(event["body"])["prompt"]}]
    body = json.dumps({"model": "gpt-4.1", "messages": messages})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    model.request("POST", f"{MODEL.path}/chat/completions", body, headers)
    return 200, {"refined_prompt": json.loads(model.getresponse().read())["choices"][0]["message"]["content"]}


def token(event):
    claims = {"sub": "client", "aud": "klamala", "exp": int(time.time()) + 3600}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    return 200, {"access_token": f"{signed}.{encoded(signature(signed))}", "token_type": "Bearer", "expires_in": 3600}


def log_request(event):
    json.loads(event["body"])
    return 201, {"message": "Request logged successfully"}


ROUTES = {"/refine": refine, "/token": token, "/log-request": log_request}


def handler(event, context):
    path = event["rawPath"]
    status, value = (401, {}) if path != "/token" and not caller(event) else ROUTES[path](event)
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(value)}
