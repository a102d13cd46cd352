"""The 13 tools of OpenRouter: what each is for, what it may be told, and how it is asked."""

from collections.abc import Mapping
from typing import Any

from integrations.openrouter import answers, catalog
from integrations.openrouter.account import TRIAL
from integrations.openrouter.arguments import (
    ChatArguments,
    ChatConsultation,
    CoinbaseArguments,
    CreditsArguments,
    EmbeddingModelsArguments,
    EndpointsArguments,
    GenerationArguments,
    KeyArguments,
    MessageArguments,
    MessageConsultation,
    ModelFilters,
    ModelsArguments,
    ModelsCountArguments,
    ProvidersArguments,
    UserModelsArguments,
    ZdrArguments,
)
from integrations.openrouter.arguments.dearness import no_dearer
from integrations.openrouter.arguments.extras import extras, with_bounded_steps
from integrations.openrouter.arguments.limits import most_tokens_in
from integrations.openrouter.bills import BILLS
from integrations.openrouter.client import OpenRouter
from integrations.registry import Hints, Integration, Tool
from integrations.wire import Request

Platform = Mapping[str, Any] | None

ASKS_MODEL = Hints(spends_money=True, holds_text=True)
READS = Hints(read_only=True, repeatable=True)


# --- asking -------------------------------------------------------------------------------


def _ask_chat(arguments: ChatArguments, client: OpenRouter, platform: Platform = None) -> Request:
    body = arguments.body()
    # The name that nearly every endpoint knows: with require_parameters, the newer one would leave few.
    body["max_tokens"] = body.pop("max_completion_tokens")
    return client.chat_completions(body | _transport(arguments) | dict(platform or {}))


def _ask_message(arguments: MessageArguments, client: OpenRouter, platform: Platform = None) -> Request:
    return client.messages(arguments.body() | _transport(arguments) | dict(platform or {}))


def _transport(arguments: ChatArguments | MessageArguments) -> dict[str, Any]:
    # Only a stream can be stopped half-way; only a whole answer can be healed.
    return {"stream": not any(plugin.id == "response-healing" for plugin in arguments.plugins or ())}


def _ask_charge(arguments: CoinbaseArguments, client: OpenRouter, platform: Platform = None) -> Request:
    return client.coinbase_charge(arguments.body())


def _ask_credits(arguments: CreditsArguments, client: OpenRouter, platform: Platform = None) -> Request:
    return client.credits()


def _ask_key(arguments: KeyArguments, client: OpenRouter, platform: Platform = None) -> Request:
    return client.key()


def _ask_generation(arguments: GenerationArguments, client: OpenRouter, platform: Platform = None) -> Request:
    return client.generation(arguments.id)


def _ask_models_count(arguments: ModelsCountArguments, client: OpenRouter, platform: Platform = None) -> Request:
    return client.models_count(output_modalities=arguments.output_modalities)


def _ask_models(arguments: ModelsArguments, client: OpenRouter, platform: Platform = None) -> Request:
    # Our own filter works on the whole list, so then the API must not cut it first.
    page = {} if arguments.free_only else {"offset": arguments.offset, "limit": arguments.limit}
    return client.models(
        **page,
        **_filters(arguments),
        category=arguments.category,
        providers=arguments.providers,
        zdr=True if arguments.zdr else None,
        region=arguments.region,
        sort=arguments.sort,
    )


def _filters(arguments: ModelFilters) -> dict[str, Any]:
    return {
        "q": arguments.q,
        "supported_parameters": arguments.supported_parameters,
        "input_modalities": arguments.input_modalities,
        "output_modalities": arguments.output_modalities,
        "context": arguments.min_context,
        "max_price": _price(arguments.max_prompt_price),
        "max_output_price": _price(arguments.max_output_price),
        "model_authors": arguments.authors,
    }


def _price(amount: Any) -> str | None:
    return None if amount is None else format(amount, "f")


def _ask_embedding_models(
    arguments: EmbeddingModelsArguments, client: OpenRouter, platform: Platform = None
) -> Request:
    return client.embedding_models()


def _ask_endpoints(arguments: EndpointsArguments, client: OpenRouter, platform: Platform = None) -> Request:
    author, _, slug = arguments.model.partition("/")
    return client.endpoints(author, slug)


def _ask_providers(arguments: ProvidersArguments, client: OpenRouter, platform: Platform = None) -> Request:
    return client.providers()


def _ask_user_models(arguments: UserModelsArguments, client: OpenRouter, platform: Platform = None) -> Request:
    return client.user_models()


def _ask_zdr_endpoints(arguments: ZdrArguments, client: OpenRouter, platform: Platform = None) -> Request:
    return client.zdr_endpoints()


# --- bounds --------------------------------------------------------------------------------


def _chat_tokens(arguments: ChatArguments) -> tuple[int, int]:
    return most_tokens_in(arguments), arguments.max_completion_tokens


def _message_tokens(arguments: MessageArguments) -> tuple[int, int]:
    return most_tokens_in(arguments), arguments.max_tokens


# --- the list -------------------------------------------------------------------------------

TOOLS = (
    Tool(
        name="create_chat_completion",
        title="Create chat completion",
        summary="Ask a model for the next message of a conversation.",
        when_to_use=(
            "Use it for every ordinary question to a model: text, pictures, sound and files in, text or JSON out, "
            "functions if you offer any. Take the model id exactly as List available models writes it."
        ),
        arguments=ChatArguments,
        hints=ASKS_MODEL,
        prepare=_ask_chat,
        read=answers.chat,
        tokens=_chat_tokens,
        output_limit="max_completion_tokens",
        brief=ChatConsultation,
        extras=extras,
        with_bounded_steps=with_bounded_steps,
        no_dearer=no_dearer,
    ),
    Tool(
        name="create_coinbase_charge",
        title="Create Coinbase charge",
        summary="Withdrawn by OpenRouter: it once bought OpenRouter balance with a crypto wallet.",
        when_to_use="Do not use it: every call is answered 410 Gone. Buy OpenRouter balance on OpenRouter's own page.",
        arguments=CoinbaseArguments,
        hints=Hints(retired=True),
        prepare=_ask_charge,
        read=answers.charge,
        credential="none",
        retired_because=(
            "OpenRouter removed its Coinbase purchase in spring 2026. The arguments are still checked, "
            "and a call is made once and never repeated."
        ),
        instead_url="https://openrouter.ai/settings/credits",
    ),
    Tool(
        name="create_message",
        title="Create message",
        summary="Ask a model for the next message of a conversation, in the Anthropic shape.",
        when_to_use=(
            "Use it when the conversation already has Anthropic's blocks, or needs what only that shape has: thinking "
            "budgets, documents with citations, context management. Otherwise use Create chat completion."
        ),
        arguments=MessageArguments,
        hints=ASKS_MODEL,
        prepare=_ask_message,
        read=answers.message,
        tokens=_message_tokens,
        output_limit="max_tokens",
        brief=MessageConsultation,
        extras=extras,
        with_bounded_steps=with_bounded_steps,
        no_dearer=no_dearer,
    ),
    Tool(
        name="get_credits",
        title="Get credits",
        summary="How much the OpenRouter account has bought and used, and the OpenRouter balance left.",
        when_to_use=(
            "Use it before expensive work or when a call failed for lack of OpenRouter balance. Not in a loop: the "
            "figures lag. 0 bought is a normal answer. It needs a management key; with an ordinary key use "
            "Get current key."
        ),
        arguments=CreditsArguments,
        hints=Hints(read_only=True, repeatable=True, needs_management_key=True),
        prepare=_ask_credits,
        read=answers.credits,
        credential="management",
    ),
    Tool(
        name="get_current_key",
        title="Get current key",
        summary="What the connected key is, what it may spend, what it has spent and when its limit starts again.",
        when_to_use="Use it to test a key, or to see why a call was refused for a spending limit. It costs nothing.",
        arguments=KeyArguments,
        hints=READS,
        prepare=_ask_key,
        read=answers.key,
    ),
    Tool(
        name="get_generation",
        title="Get generation",
        summary="What one earlier answer cost, how many tokens it took and which providers were tried.",
        when_to_use=(
            "Use it when an answer came without its cost, or was cut off. The record appears some seconds after the "
            "answer; wait lets the call be patient. It holds no prompt and no answer text."
        ),
        arguments=GenerationArguments,
        hints=READS,
        prepare=_ask_generation,
        read=answers.generation,
    ),
    Tool(
        name="get_models_count",
        title="Get models count",
        summary="How many models OpenRouter lists.",
        when_to_use="Use it for a figure. To choose a model use List available models.",
        arguments=ModelsCountArguments,
        hints=READS,
        prepare=_ask_models_count,
        read=answers.models_count,
        credential="optional",
    ),
    Tool(
        name="list_available_models",
        title="List available models",
        summary="Search OpenRouter's models by ability, context, price, provider and privacy.",
        when_to_use=(
            "Use it to find a model id before asking a model. Narrow it with filters: the whole list is long. A price "
            "of null varies with the model that is picked."
        ),
        arguments=ModelsArguments,
        hints=READS,
        prepare=_ask_models,
        read=answers.models,
        credential="optional",
    ),
    Tool(
        name="list_embedding_models",
        title="List embedding models",
        summary="The models that turn text into vectors, with context and price.",
        when_to_use="Use it to choose a model for search or similarity. Chat models are in List available models.",
        arguments=EmbeddingModelsArguments,
        hints=READS,
        prepare=_ask_embedding_models,
        read=answers.embedding_models,
        credential="optional",
    ),
    Tool(
        name="list_model_endpoints",
        title="List model endpoints",
        summary="Every provider that serves one model, with price, limits, uptime and speed.",
        when_to_use=(
            "Use it to choose providers for one model, or to see why a model is slow or refused. Speed is null "
            "without a key, and where nobody used the endpoint lately."
        ),
        arguments=EndpointsArguments,
        hints=READS,
        prepare=_ask_endpoints,
        read=answers.endpoints,
        credential="optional",
    ),
    Tool(
        name="list_providers",
        title="List providers",
        summary="Every provider behind OpenRouter, with its policies, home country and data centres.",
        when_to_use="Use it to look up a provider's slug, terms or country. Prices are in List model endpoints.",
        arguments=ProvidersArguments,
        hints=READS,
        prepare=_ask_providers,
        read=answers.providers,
        credential="optional",
    ),
    Tool(
        name="list_user_models",
        title="List user models",
        summary="The models that the account's own privacy and provider settings leave over.",
        when_to_use="Use it when a listed model is refused: a model missing here is hidden by the account's settings.",
        arguments=UserModelsArguments,
        hints=READS,
        prepare=_ask_user_models,
        read=answers.user_models,
    ),
    Tool(
        name="list_zdr_endpoints",
        title="List ZDR endpoints",
        summary="The models with endpoints that retain no data, and what a zero-retention rule would cost you.",
        when_to_use=(
            "Use it before requiring zero data retention: give the model ids you rely on as impact_on to see which "
            "stay and which are lost."
        ),
        arguments=ZdrArguments,
        hints=READS,
        prepare=_ask_zdr_endpoints,
        read=answers.zdr_endpoints,
        credential="optional",
    ),
)

OPENROUTER = Integration(
    slug="openrouter",
    name="OpenRouter",
    about="One key for several hundred models of many providers, with routing between them.",
    site_url="https://openrouter.ai",
    key_url="https://openrouter.ai/settings/keys",
    management_key_url="https://openrouter.ai/settings/management-keys",
    client=OpenRouter,
    tools=TOOLS,
    trial=TRIAL,
    catalog=catalog,
    bills=BILLS,
    asks_consent=True,
)
