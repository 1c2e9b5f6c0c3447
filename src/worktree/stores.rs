//! Makes and feeds a project's two stores. Ours has no alternates, is never collected, and is fed by `fetch` alone.

use super::error::WorktreeError;
use super::files;
use super::git::{Git, Setup};
use super::layout::Stores;
use super::lock::Lock;
use super::project::{LocalRepository, Project, without_credentials};
use std::fs;
use std::path::Path;

/// Where ours remembers the project's HEAD as last seen.
pub(super) const PROJECT_HEAD: &str = "refs/agentpool-project/head";

/// Reflogs for people, and no collection behind the agents' backs.
const HUB_CONFIG: &str =
    "[core]\n\tlogAllRefUpdates = true\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n";

/// Makes what is missing of both stores, brings the project's present HEAD into ours and says which commit it is.
/// Call it with the project's lock held.
///
/// # Errors
/// [`WorktreeError::ProjectUnusable`] when the project cannot be read.
pub(super) async fn bring_head(
    setup: &Setup,
    stores: &Stores,
    project: &Project,
    lock: &Lock,
) -> Result<String, WorktreeError> {
    let format = project.local.as_ref().map_or("sha1", |local| &local.object_format);
    make_ours(setup, stores, project, format, lock).await?;
    make_hub(setup, stores, &hub_config(project), format, lock).await?;
    let seen = files::read_line(&stores.ours.join(PROJECT_HEAD));
    if let (Some(local), Some(seen)) = (&project.local, &seen)
        && *seen == local.head
    {
        return Ok(seen.clone());
    }
    if let Some(local) = &project.local
        && seen.is_none()
    {
        link_objects(local, &stores.ours);
    }
    fetch_head(setup, stores, project, lock).await?;
    files::read_line(&stores.ours.join(PROJECT_HEAD)).ok_or_else(|| {
        WorktreeError::ProjectUnusable("its HEAD could not be read; make a first commit".into())
    })
}

async fn fetch_head(
    setup: &Setup,
    stores: &Stores,
    project: &Project,
    lock: &Lock,
) -> Result<(), WorktreeError> {
    let fetched = Git::new(setup, "fetch the project")
        .dir(&stores.ours)
        .args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"])
        .args(["--no-recurse-submodules", "--update-shallow", "--end-of-options", &project.remote])
        .args([format!("+HEAD:{PROJECT_HEAD}")])
        .holding(lock)
        .long()
        .outcome()
        .await?;
    if fetched.code == 0 {
        return Ok(());
    }
    let detail = without_password(&fetched.detail, project);
    // C locale words of git for what only a person can mend; anything else may pass by itself.
    let lasting = [
        "Authentication failed",
        "not found",
        "does not appear",
        "couldn't find remote ref",
        "Permission denied",
    ];
    if project.local.is_some() || lasting.iter().any(|words| detail.contains(words)) {
        let what = without_credentials(&project.remote);
        return Err(WorktreeError::ProjectUnusable(format!("{what} cannot be fetched: {detail}")));
    }
    Err(WorktreeError::Git { what: "fetch the project", detail })
}

/// git's words about a project, without what its URL may hold.
pub(super) fn without_password(detail: &str, project: &Project) -> String {
    detail.replace(&project.remote, &without_credentials(&project.remote))
}

/// Mends the hub of a project whose ours is there.
///
/// # Errors
/// [`WorktreeError::Git`] when ours is gone: then there is nothing to mend from.
pub(super) async fn mend_hub(setup: &Setup, stores: &Stores) -> Result<(), WorktreeError> {
    if is_repository(&stores.hub) && borrows(stores) {
        return Ok(());
    }
    let lock = Lock::take(&stores.lock).await?;
    let ours = Git::new(setup, "open the project's store").dir(&stores.ours);
    let format = ours.args(["rev-parse", "--show-object-format"]).run().await?.text();
    make_hub(setup, stores, HUB_CONFIG, &format, &lock).await
}

async fn make_ours(
    setup: &Setup,
    stores: &Stores,
    project: &Project,
    format: &str,
    lock: &Lock,
) -> Result<(), WorktreeError> {
    if !is_repository(&stores.ours) {
        // Whatever is there was never finished: the rename is the last step.
        let new = init(setup, &stores.dir, format, lock).await?;
        if let Some(local) = &project.local
            && let Some(exclude) = files::read(&local.common_dir.join("info/exclude"), 1 << 20)
        {
            files::make_dir(&new.join("info"))?;
            files::write(&new.join("info/exclude"), &exclude)?;
        }
        files::remove(&stores.ours)?;
        fs::rename(&new, &stores.ours).map_err(WorktreeError::io(&stores.ours))?;
    }
    Ok(())
}

/// Makes the hub when it is missing, and mends what every worktree of it needs.
async fn make_hub(
    setup: &Setup,
    stores: &Stores,
    hub_config: &str,
    format: &str,
    lock: &Lock,
) -> Result<(), WorktreeError> {
    if !is_repository(&stores.hub) {
        let new = init(setup, &stores.dir, format, lock).await?;
        let path = new.join("config");
        let mut text = files::read(&path, 1 << 20).unwrap_or_default();
        text.extend_from_slice(hub_config.as_bytes());
        files::write(&path, &text)?;
        // The agents' own excludes are those of the project.
        if let Some(exclude) = files::read(&stores.ours.join("info/exclude"), 1 << 20) {
            files::make_dir(&new.join("info"))?;
            files::write(&new.join("info/exclude"), &exclude)?;
        }
        if files::is_dir(&stores.hub) {
            files::move_aside(&stores.hub, &stores.dir.join("hub-kept"))?;
        }
        fs::rename(&new, &stores.hub).map_err(WorktreeError::io(&stores.hub))?;
    }
    if !borrows(stores) {
        let path = stores.hub.join("objects/info/alternates");
        files::make_dir(&stores.hub.join("objects/info"))?;
        files::write(&path, alternates(stores).as_bytes())?;
    }
    Ok(())
}

/// True when the hub borrows from ours as it should.
pub(super) fn borrows(stores: &Stores) -> bool {
    files::read(&stores.hub.join("objects/info/alternates"), 64 << 10)
        .is_some_and(|text| text == alternates(stores).as_bytes())
}

/// True when git would take the folder for a repository.
pub(super) fn is_repository(dir: &Path) -> bool {
    files::is_dir(&dir.join("objects"))
        && files::is_dir(&dir.join("refs"))
        && files::read_line(&dir.join("HEAD")).is_some()
}

fn alternates(stores: &Stores) -> String {
    format!("{}\n", stores.ours.join("objects").display())
}

/// An `origin` only where a push cannot reach a user's own `.git`.
fn hub_config(project: &Project) -> String {
    let mut text = HUB_CONFIG.to_owned();
    if project.local.is_none() && !project.remote.starts_with("file:") {
        let url = without_credentials(&project.remote).replace('\\', "\\\\").replace('"', "\\\"");
        text.push_str(&format!(
            "[remote \"origin\"]\n\turl = \"{url}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
        ));
    }
    text
}

async fn init(
    setup: &Setup,
    dir: &Path,
    format: &str,
    lock: &Lock,
) -> Result<std::path::PathBuf, WorktreeError> {
    let new = dir.join("making.git");
    files::remove(&new)?;
    Git::new(setup, "make a store")
        .args(["init", "--quiet", "--bare"])
        .args([format!("--object-format={format}")])
        .args(["--end-of-options".as_ref(), new.as_os_str()])
        .holding(lock)
        .run()
        .await?;
    Ok(new)
}

/// Hard links to the project's objects, so that the fetch that follows finds them and copies nothing. What cannot be
/// linked (another file system, another owner) is simply fetched.
fn link_objects(local: &LocalRepository, ours: &Path) {
    let (from, to) = (local.common_dir.join("objects"), ours.join("objects"));
    for dir in fs::read_dir(&from).into_iter().flatten().flatten() {
        let name = dir.file_name();
        let kind = name.to_string_lossy();
        let fan_out = kind.len() == 2 && kind.bytes().all(|b| b.is_ascii_hexdigit());
        if !(fan_out || kind == "pack")
            || !files::is_dir(&dir.path())
            || fs::create_dir_all(to.join(&name)).is_err()
        {
            continue;
        }
        let linked = |file: fs::DirEntry| {
            let text = file.file_name().to_string_lossy().into_owned();
            let wanted = if fan_out {
                text.bytes().all(|b| b.is_ascii_hexdigit())
            } else {
                [".pack", ".idx", ".rev"].iter().any(|end| text.ends_with(end))
            };
            let plain = file.file_type().is_ok_and(|kind| kind.is_file());
            !(wanted && plain) || fs::hard_link(file.path(), to.join(&name).join(file.file_name())).is_ok()
        };
        if !fs::read_dir(dir.path()).into_iter().flatten().flatten().all(linked) {
            return;
        }
    }
}
