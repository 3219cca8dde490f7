//! Memory use of this process and its limit, as Linux reports them in `/proc` and `/sys/fs/cgroup`.

use std::fs;
use std::path::Path;

/// Resident bytes of this process without file-backed pages, which the kernel can reclaim. None on other systems than Linux.
pub(super) fn used() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Bytes at which the kernel kills this process: the least of the machine's memory and the limits of its cgroup and that
/// cgroup's ancestors.
pub(super) fn limit() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| kilobytes(&text, "MemTotal:"));
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let group = groups.and_then(|groups| cgroup_limit(&groups, Path::new("/sys/fs/cgroup")));
    [machine, group].into_iter().flatten().min()
}

fn resident(status: &str) -> Option<u64> {
    let file_backed = kilobytes(status, "RssFile:").unwrap_or_default();
    Some(kilobytes(status, "VmRSS:")?.saturating_sub(file_backed))
}

/// The value, in bytes, of a line such as `VmRSS:   12 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(number.saturating_mul(1024))
}

/// The least limit of the cgroups (v1 or v2) listed in `/proc/self/cgroup`, and of their ancestors.
fn cgroup_limit(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let own = root.join(path.trim_start_matches('/'));
        let above = own.ancestors().take_while(|group| group.starts_with(&root));
        above.filter_map(|group| number(&group.join(file))).min()
    });
    limits.min()
}

/// None also for `max`, the word of cgroups v2 for no limit; v1 writes a number larger than any machine's memory.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_resident_memory_without_file_pages() {
        let used = used().expect("this is Linux");
        assert!(used > 100_000 && used < limit().unwrap(), "{used}");
        let status = "Name:\tx\nVmRSS:\t  3000 kB\nRssAnon:\t 1000 kB\nRssFile:\t 1500 kB\nRssShmem:\t 500 kB\n";
        assert_eq!(resident(status), Some(1500 * 1024));
        assert_eq!(resident("VmRSS:\t  3000 kB\n"), Some(3000 * 1024));
        assert_eq!(resident("VmRSS: many"), None);
    }

    #[test]
    fn takes_least_limit_of_cgroup_and_ancestors() {
        let root = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        put("a/b/memory.max", "max\n");
        put("a/memory.max", "500\n");
        put("c/memory.max", "200\n");
        put("memory/d/memory.limit_in_bytes", "300\n");
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let of = |groups| cgroup_limit(groups, root.path());
        assert_eq!(of("0::/a/b\n"), Some(500));
        assert_eq!(of("0::/c\n"), Some(200));
        assert_eq!(of("0::/elsewhere\n"), None);
        assert_eq!(of("12:cpu,cpuacct:/d\n4:memory:/d\n0::/\n"), Some(300));
        assert_eq!(of("nonsense"), None);
        // In a container, the root of the cgroup file system is the container's own cgroup.
        put("memory.max", "100");
        assert_eq!(of("0::/../../x\n"), Some(100));
    }
}
