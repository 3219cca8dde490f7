def price(items):
    return sum(len(item) for item in items)
