"""The service as a tutorial has it, with FastAPI: a token, one call of the model, one insert."""

import hashlib
import hmac
import os
import time
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from mangum import Mangum
from openai import AsyncOpenAI
from pydantic import BaseModel
from pymongo import AsyncMongoClient

SECRET = os.environ["JWT_SECRET"]
app = FastAPI()
model = AsyncOpenAI()
database = AsyncMongoClient(os.environ["DATABASE_URL"])["klamala"]


class Draft(BaseModel):
    prompt: str


class Refined(BaseModel):
    refined_prompt: str


class Entry(BaseModel):
    prompt: str
    response: str


class Token(BaseModel):
    access_token: str
    token_type: str
    expires_in: int


def caller(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    try:
        return jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"], audience="klamala")["sub"]
    except jwt.PyJWTError:
        raise HTTPException(401) from None


@app.post("/token")
async def token(x_api_key: Annotated[str, Header()]) -> Token:
    api_key = x_api_key
    client_id = api_key.partition(".")[0]
    client = await database.clients.find_one({"_id": client_id})
    if not client or not hmac.compare_digest(client["key_hash"], hashlib.sha256(api_key.encode()).hexdigest()):
        raise HTTPException(401)
    claims = {"sub": client_id, "aud": "klamala", "exp": int(time.time()) + 3600}
    return Token(access_token=jwt.encode(claims, SECRET, algorithm="HS256"), token_type="Bearer", expires_in=3600)


@app.post("/refine")
async def refine(draft: Draft, user: Annotated[str, Depends(caller)]) -> Refined:
    answer = await model.chat.completions.create(
        model="gpt-4.1",
        messages=[
            {"role": "system", "content": "Refine this prompt."},
            {"role": "user", "content": draft.prompt},
        ],
    )
    refined = answer.choices[0].message.content
    await database.logs.insert_one(
        {"user": user, "prompt": draft.prompt, "response": refined, "timestamp": time.time()}
    )
    return Refined(refined_prompt=refined)


@app.post("/log-request", status_code=201)
async def log_request(entry: Entry, user: Annotated[str, Depends(caller)]) -> dict[str, str]:
    await database.logs.insert_one({"user": user, **entry.model_dump(), "timestamp": time.time()})
    return {"message": "Request logged successfully"}


handler = Mangum(app, lifespan="off")
