"""Who may do what. One table; a role that is not in it may do nothing."""

from enum import StrEnum, auto

from django.db.models import TextChoices


class Role(TextChoices):
    """What a member is in a team, the most powerful first."""

    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    BUILDER = "builder", "Builder"
    MEMBER = "member", "Member"
    AUDITOR = "auditor", "Auditor"


class Permission(StrEnum):
    """What a page or an action asks for."""

    TEAM_VIEW = auto()
    MEMBER_VIEW = auto()
    MEMBER_MANAGE = auto()
    CONNECTION_VIEW = auto()
    CONNECTION_MANAGE = auto()
    CREDENTIAL_REVOKE = auto()
    PERSONA_VIEW = auto()
    PERSONA_EDIT = auto()
    TOOL_RUN = auto()
    FLOW_VIEW = auto()
    FLOW_EDIT = auto()
    RUN_VIEW = auto()
    RUN_START = auto()
    RUN_STOP = auto()
    AUDIT_VIEW = auto()
    AUDIT_READ_CONTENT = auto()
    AUDIT_EXPORT = auto()
    CHAT_VIEW = auto()
    CHAT_USE = auto()
    APPROVAL_VIEW = auto()
    APPROVAL_DECIDE = auto()
    SPEND_VIEW = auto()
    LIMIT_VIEW = auto()
    LIMIT_EDIT = auto()
    PLAN_VIEW = auto()
    PLAN_EDIT = auto()
    SETTINGS_EDIT = auto()


ALL = frozenset(Permission)
VIEWS = frozenset(permission for permission in Permission if permission.name.endswith("_VIEW"))

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: ALL,
    Role.ADMIN: ALL,
    Role.BUILDER: ALL
    - {
        Permission.MEMBER_MANAGE,
        Permission.CONNECTION_MANAGE,
        Permission.CREDENTIAL_REVOKE,
        Permission.AUDIT_EXPORT,
        Permission.LIMIT_EDIT,
        Permission.PLAN_EDIT,
        Permission.SETTINGS_EDIT,
    },
    Role.MEMBER: VIEWS - {Permission.AUDIT_VIEW} | {Permission.TOOL_RUN, Permission.RUN_START, Permission.CHAT_USE},
    Role.AUDITOR: VIEWS | {Permission.AUDIT_READ_CONTENT, Permission.AUDIT_EXPORT},
}

ROLE_MEANINGS: dict[Role, str] = {
    Role.OWNER: "Everything, and makes other owners.",
    Role.ADMIN: "Members, connections, limits, settings and all work. Cannot make owners.",
    Role.BUILDER: "Personas, flows, runs and approvals. Cannot connect or revoke credentials, nor set limits.",
    Role.MEMBER: "Uses personas and tools, starts runs, sees results.",
    Role.AUDITOR: "Reads and exports everything, changes nothing.",
}


def allows(role: str, permission: Permission) -> bool:
    """Say whether a role may do something. Spelling counts: "Owner" is no role."""
    return permission in ROLE_PERMISSIONS.get(role, frozenset())


def may_grant(role: str, other: str) -> bool:
    """Say whether a role may give `other` to somebody, or take it away: nobody grants more than they hold."""
    if other not in ROLE_PERMISSIONS or not allows(role, Permission.MEMBER_MANAGE):
        return False
    return role == Role.OWNER or (other != Role.OWNER and ROLE_PERMISSIONS[other] <= ROLE_PERMISSIONS[role])
