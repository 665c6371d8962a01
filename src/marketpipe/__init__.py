"""MarketPipe: market data that can be trusted."""
