"""The API's description (OpenAPI 3.1), made from what the views say, their guards, their models and the errors' table.

Views import `openapi.operation` alone. The rest is imported by the first request for the description.
"""
