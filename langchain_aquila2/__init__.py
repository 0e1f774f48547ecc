"""Aquila2 for LangChain; importing it imports neither torch nor transformers."""

from aquila2_runtime import __version__
from langchain_aquila2.chat_models import ChatAquila2
from langchain_aquila2.llms import Aquila2LLM
from langchain_aquila2.registration import register

__all__ = ["Aquila2LLM", "ChatAquila2", "__version__", "register"]
