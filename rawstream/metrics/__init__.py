"""What a server tells Prometheus. It needs prometheus-client: the extra `[metrics]`.

    metrics = Metrics({"news": channel})
    serve(app, metrics=metrics)                GET /metrics  ->  await metrics.respond(request)

    what has ended: requests, connections       told by the server, and counted
    what is: connections, readers, the drain    read when somebody looks

A server without metrics counts nothing for them. With them, a request costs a few additions when it
ends, and a delivery nothing. Labels are bounded: no client can make a series.

In reading order:

    traffic.py      connections and requests
    channels.py     channels and their readers
    exposition.py   all of it, as Prometheus reads it
"""
