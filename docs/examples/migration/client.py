"""A client of it, which needs no FastAPI."""

from locktender import RemoteRunnable  # was: from langserve import RemoteRunnable

explain = RemoteRunnable("http://127.0.0.1:8000/explain")

print(explain.invoke("rain"))
print(explain.batch(["rain", "snow"]))
for chunk in explain.stream("hail"):
    print(chunk)
