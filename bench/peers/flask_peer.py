"""The service as a tutorial has it, with Flask: a token, one call of the model, one insert."""

import hashlib
import hmac
import os
import time

import jwt
import serverless_wsgi
from flask import Flask, abort, jsonify, request
from openai import OpenAI
from pymongo import MongoClient

SECRET = os.environ["JWT_SECRET"]
app = Flask(__name__)
model = OpenAI()
database = MongoClient(os.environ["DATABASE_URL"])["klamala"]


def caller():
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer":
        abort(401)
    try:
        return jwt.decode(token, SECRET, algorithms=["HS256"], audience="klamala")
    except jwt.PyJWTError:
        abort(401)


@app.post("/token")
def token():
    api_key = request.headers.get("X-API-Key", "")
    client_id = api_key.partition(".")[0]
    client = database.clients.find_one({"_id": client_id})
    if not client or not hmac.compare_digest(client["key_hash"], hashlib.sha256(api_key.encode()).hexdigest()):
        abort(401)
    claims = {"sub": client_id, "aud": "klamala", "exp": int(time.time()) + 3600}
    return jsonify(access_token=jwt.encode(claims, SECRET, algorithm="HS256"), token_type="Bearer", expires_in=3600)


@app.post("/refine")
def refine():
    user = caller()["sub"]
    prompt = request.get_json()["prompt"]
    answer = model.chat.completions.create(
        model="gpt-4.1",
        messages=[
            {"role": "system", "content": "Refine this prompt."},
            {"role": "user", "content": prompt},
        ],
    )
    refined = answer.choices[0].message.content
    database.logs.insert_one({"user": user, "prompt": prompt, "response": refined, "timestamp": time.time()})
    return jsonify(refined_prompt=refined)


@app.post("/log-request")
def log_request():
    user = caller()["sub"]
    body = request.get_json()
    entry = {"user": user, "prompt": body["prompt"], "response": body["response"], "timestamp": time.time()}
    database.logs.insert_one(entry)
    return jsonify(message="Request logged successfully"), 201


def handler(event, context):
    return serverless_wsgi.handle_request(app, event, context)
