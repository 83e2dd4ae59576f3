"""
What readers of the topics are told, made from the code: docs/contract.

    messages      what lies in which topic, under which key, with which headers
    examples      one of each, from a recorded trace
    asyncapi      all of it for machines: asyncapi.json
    pages         all of it for people: a page per document
    walkthrough   one call, from its webhooks to the agents' status
"""
