"""Builds the application: all its parts, the handlers of its routes, and the door before them."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, NoReturn

from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Route

from hodios.accounts.accounts import Accounts
from hodios.accounts.office import Office
from hodios.accounts.registry import Registry
from hodios.api.account_admin import AccountAdmin, names_of
from hodios.api.account_metrics import AccountCollector, account_fields
from hodios.api.admin import Admin
from hodios.api.auth import Doorkeeper
from hodios.api.catalog import Catalog
from hodios.api.catalog_entries import Statistics
from hodios.api.cors import Cors
from hodios.api.door import Door, Endpoint, Handler, refuse
from hodios.api.exchange import Exchange
from hodios.api.generation import Generations
from hodios.api.guard_metrics import GuardCollector
from hodios.api.guards import add_models, guarding_of, of_clients
from hodios.api.health import Health
from hodios.api.local_models import LocalModels
from hodios.api.metrics import Metrics
from hodios.api.model_records import model_records
from hodios.api.moderations import Moderations
from hodios.api.openai import Generation
from hodios.api.openapi import openapi_document
from hodios.api.processes import Processes
from hodios.api.recommendations import Recommendations
from hodios.api.request_log import RequestLog
from hodios.api.router_metrics import RouterCollector
from hodios.api.routes import ROUTES, RouteName
from hodios.api.session_keeper import SessionKeeper
from hodios.api.statistics import Figures
from hodios.api.status import StatusPage
from hodios.api.tokens import Tokenization
from hodios.api.usage import UsageReports
from hodios.api.web import session_keeper, web_handlers
from hodios.config import Config
from hodios.errors import NotAvailable
from hodios.gateway import Gateway
from hodios.guard.guarding import Guarding
from hodios.providers.base import Provider
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.control_client import Control
from hodios.providers.listing_shelf import ListingShelf
from hodios.providers.prices import PriceHistory
from hodios.providers.sync import Synchronizer
from hodios.router.history import History
from hodios.router.history_file import HistoryFile, keeping
from hodios.router.probes import Prober
from hodios.router.router import Router, told
from hodios.router.server_loads import ServerLoads
from hodios.router_settings import RouterSettings
from hodios.setting_values import is_loopback
from hodios.store.reports import Reports
from hodios.store_settings import is_shared

_TIME_DIGITS, _RANDOM_DIGITS = 12, 20
_IDS_AT_ONCE = 128


async def _not_available(exchange: Exchange) -> NoReturn:
    raise NotAvailable("no model here does that yet: only chat/completions and completions are served")


class _Parts(NamedTuple):
    """What handlers are made of."""

    gateway: Gateway
    guarding: Guarding
    history: History
    prober: Prober
    server_loads: ServerLoads
    metrics: Metrics
    store: CatalogStore
    synchronizer: Synchronizer
    statistics: Statistics
    generations: Generations
    status: StatusPage
    accounts: Accounts | None
    account_report: Callable[[], dict[str, Any]] | None
    registry: Registry | None
    usage: UsageReports
    recommendations: Recommendations
    processes: Processes
    request_log: RequestLog | None
    sessions: SessionKeeper


def _parts(
    config: Config,
    providers: Sequence[Provider],
    store: CatalogStore,
    synchronizer: Synchronizer,
    statistics: Statistics | None,
    office: Office | None,
    processes: Processes,
    guarding: Guarding,
    clock: Callable[[], float],
) -> _Parts:
    settings = config.router or RouterSettings()
    accounts = office.accounts if office else None
    history = History(clock=clock)
    database = office.database if office else None
    registry = Registry(office.database, office.secret, clock_s=clock) if office else None
    generations = _generations(config, office, clock)
    records = [history.record, of_clients(generations.record)]
    request_log = RequestLog(office.accounts, office.contents, office.secret, clock) if office else None
    if request_log is not None:
        records.append(of_clients(request_log.record))
    router = Router(settings, record=told(*records), on_breaker=history.note_breaker)
    gateway = Gateway(providers, router, guarding)
    collectors: list[Collector] = [RouterCollector(history, router.tracks), GuardCollector(guarding.panel)]
    if office is not None and request_log is not None:
        collectors.append(AccountCollector(office.accounts.figures, office.housekeeper.figures, request_log.losses))
    metrics = Metrics(gateway.health, *collectors, processes=processes)
    return _Parts(
        gateway=gateway,
        guarding=guarding,
        history=history,
        prober=Prober(providers, router.tracks, history, settings.probe_interval_s),
        server_loads=ServerLoads(providers, router.tracks),
        metrics=metrics,
        store=store,
        synchronizer=synchronizer,
        statistics=statistics or Figures(history),
        generations=generations,
        status=StatusPage(gateway, router, history),
        accounts=accounts,
        account_report=partial(_account_report, office) if office else None,
        usage=UsageReports(database, clock=clock),
        recommendations=Recommendations(gateway, database, registry, clock=clock),
        processes=processes,
        registry=registry,
        request_log=request_log,
        sessions=session_keeper(config, office, clock),
    )


def _generations(config: Config, office: Office | None, clock: Callable[[], float]) -> Generations:
    num_kept = (config.router or RouterSettings()).kept_generations
    if office is None:
        return Generations(num_kept, clock=clock)
    log, is_with_others = Reports(office.database), is_shared(config.store_url)
    return Generations(num_kept, clock=clock, log=log, contents=office.contents, has_neighbours=is_with_others)


def _account_report(office: Office) -> dict[str, Any]:
    return account_fields(office.accounts.figures(), office.housekeeper.figures())


def _handlers(
    config: Config,
    parts: _Parts,
    *,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    new_id: Callable[[], str],
) -> dict[RouteName, Handler]:
    gateway, store = parts.gateway, parts.store
    generation = Generation(
        gateway, config, parts.generations, parts.accounts, clock=clock, new_id=new_id, monotonic=monotonic
    )
    catalog = Catalog(gateway, config.max_choices, lambda: store.current, parts.statistics)
    moderations = Moderations(parts.guarding, parts.accounts, config.max_body_bytes, new_id)
    tokenization = Tokenization(gateway, config.max_body_bytes)
    health = Health(
        gateway,
        store,
        parts.status,
        parts.guarding.panel,
        parts.account_report,
        processes=parts.processes,
        monotonic=monotonic,
    )
    admin = Admin(store, parts.synchronizer, config.max_body_bytes)
    account_admin = AccountAdmin(parts.registry, names_of(gateway, store), config.max_body_bytes)
    records = model_records(config.home, gateway, catalog, parts.synchronizer, parts.history)
    document = openapi_document(config.max_choices)
    return {
        "chat/completions": generation.chat,
        "completions": generation.completions,
        "models": catalog.all,
        "model": catalog.one,
        "endpoints": catalog.endpoints,
        "generation": parts.generations.one,
        "embeddings": _not_available,
        "moderations": moderations.moderate,
        **tokenization.handlers(),
        **health.handlers(),
        "status": parts.status.show,
        "metrics": parts.metrics.show,
        "openapi": lambda exchange: exchange.answer_json(document),
        **admin.handlers(),
        **account_admin.handlers(),
        **web_handlers(config, parts.sessions, parts.accounts, clock=clock, monotonic=monotonic),
        **records,
        **parts.usage.handlers(),
        **parts.recommendations.handlers(),
    }


def _doorkeeper(config: Config, parts: _Parts) -> Doorkeeper:
    return Doorkeeper(
        config.admin_key,
        sessions=parts.sessions,
        accounts=parts.accounts,
        is_metrics_public=config.metrics_public,
        is_status_public=config.status_public,
        is_local=is_loopback(config.host),
    )


def _routes(handlers: dict[RouteName, Handler]) -> list[Route]:
    """In the order of ROUTES, so that the busiest is found first."""
    return [
        Route(info.pattern(path), Endpoint(info.name, handlers[info.name]), methods=[info.method])
        for info in ROUTES
        for path in info.paths()
    ]


def _straight(routes: Sequence[Route]) -> dict[str, Endpoint]:
    """Path → end of what is sent to paths that are always the same."""
    return {
        route.path: route.endpoint
        for route in routes
        if isinstance(route.endpoint, Endpoint) and "POST" in (route.methods or ()) and not route.param_convertors
    }


def new_ids(clock: Callable[[], float]) -> Iterator[str]:
    """32 hex digits each: milliseconds, and 80 random bits. The store has its rows in the order of their ids, so that
    new ones come to its end, instead of each to another page. The system is asked for many at once: it takes as long
    for one."""
    while True:
        now = f"{int(clock() * 1e3):0{_TIME_DIGITS}x}"
        digits = secrets.token_hex(_RANDOM_DIGITS * _IDS_AT_ONCE // 2)
        yield from (now + digits[at : at + _RANDOM_DIGITS] for at in range(0, len(digits), _RANDOM_DIGITS))


def _lifespan(
    providers: Sequence[Provider], *contexts: AbstractAsyncContextManager[None]
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def run(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for provider in providers:
                stack.push_async_callback(provider.aclose)
                await provider.start()
            for context in contexts:
                await stack.enter_async_context(context)
            yield

    return run


def create_app(
    config: Config,
    providers: Sequence[Provider],
    *,
    store: CatalogStore | None = None,
    synchronizer: Synchronizer | None = None,
    statistics: Statistics | None = None,
    office: Office | None = None,
    processes: Processes | None = None,
    control: Control | None = None,
    guarding: Guarding | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.perf_counter,
    new_id: Callable[[], str] | None = None,
) -> Starlette:
    """The whole HTTP API over `providers`, which its lifespan starts and closes.

    Without a `store` the catalog knows no more than the providers say; without a `synchronizer` they are asked what
    they list only when somebody says so; without an `office` the admin key is the only key; without `processes` there
    is no other one; without a `control` local models stay what they are; without a `guarding` nobody looks at texts.
    `statistics` tells how they have done, instead of what traffic shows. `clock` gives Unix seconds, `monotonic` any
    seconds, `new_id` 32 hex digits, never the same.
    """
    new_id = new_id or new_ids(clock).__next__
    store = store or CatalogStore(config, folders=())
    synchronizer = synchronizer or Synchronizer(store, PriceHistory(config.home), ListingShelf(config.home))
    processes = processes or Processes()
    guarding = guarding or guarding_of(config)
    parts = _parts(config, providers, store, synchronizer, statistics, office, processes, guarding, clock)
    add_models(guarding, parts.gateway, new_id)
    handlers = _handlers(config, parts, clock=clock, monotonic=monotonic, new_id=new_id)
    handlers |= LocalModels(config, control, monotonic=monotonic).handlers()
    routes = _routes(handlers)
    app = Starlette(routes=routes, lifespan=_lifespan(providers, *_contexts(config, parts)))
    app.router.redirect_slashes = False
    app.middleware_stack = Door(
        ExceptionMiddleware(app.router, handlers={HTTPException: refuse}),
        endpoints=_straight(routes),
        doorkeeper=_doorkeeper(config, parts),
        cors=Cors(config.cors_origins),
        metrics=parts.metrics,
        request_log=parts.request_log,
        monotonic=monotonic,
        new_id=new_id,
    )
    return app


def _contexts(config: Config, parts: _Parts) -> list[AbstractAsyncContextManager[None]]:
    """What goes on as long as the app does."""
    return [
        keeping(parts.history, HistoryFile(config.home, parts.processes.number)),
        parts.prober.running(),
        parts.server_loads.running(),
        parts.guarding.running(),
        parts.processes.telling(parts.metrics.registry),
    ]
