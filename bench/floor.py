"""The floor F: a bare Flask view that parses a form of 1 KB. Every figure of the bench is a ratio to it."""

from flask import Flask, request

application = Flask("floor")


@application.post("/")
def view():
    return str(len(request.form["a"]))
