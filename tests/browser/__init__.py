"""The pages in a real Chromium, over all services"""
